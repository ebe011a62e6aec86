#pragma once

#include "CoreMinimal.h"
#include "GameFramework/Actor.h"

#include "MienHeadActor.generated.h"

class UMienHeadComponent;

/** A live head to put into a level: an actor that is nothing but a UMienHeadComponent. */
UCLASS(ClassGroup = (Mien))
class MIENLIVE_API AMienHeadActor : public AActor
{
	GENERATED_BODY()

public:
	AMienHeadActor();

	UPROPERTY(VisibleAnywhere, BlueprintReadOnly, Category = "Mien")
	TObjectPtr<UMienHeadComponent> Head;
};
