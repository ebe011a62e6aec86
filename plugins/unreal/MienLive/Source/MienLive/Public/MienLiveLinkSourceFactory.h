#pragma once

#include "CoreMinimal.h"
#include "LiveLinkSourceFactory.h"

#include "MienLiveLinkSourceFactory.generated.h"

/** "Mien" in the list of sources of the Live Link window; connection string: HOST:PORT or HOST:PORT TOKEN. */
UCLASS()
class MIENLIVE_API UMienLiveLinkSourceFactory : public ULiveLinkSourceFactory
{
	GENERATED_BODY()

public:
	virtual FText GetSourceDisplayName() const override;
	virtual FText GetSourceTooltip() const override;
	virtual EMenuType GetMenuType() const override { return EMenuType::MenuEntry; }
	virtual TSharedPtr<ILiveLinkSource> CreateSource(const FString& ConnectionString) const override;
};
