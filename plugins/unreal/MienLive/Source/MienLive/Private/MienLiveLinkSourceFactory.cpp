#include "MienLiveLinkSourceFactory.h"

#include "MienLiveLinkSource.h"

#define LOCTEXT_NAMESPACE "Mien"

FText UMienLiveLinkSourceFactory::GetSourceDisplayName() const
{
	return LOCTEXT("SourceName", "Mien");
}

FText UMienLiveLinkSourceFactory::GetSourceTooltip() const
{
	return LOCTEXT("SourceTooltip", "Expression weights and head pose of a running `mien serve`, 127.0.0.1:5750");
}

TSharedPtr<ILiveLinkSource> UMienLiveLinkSourceFactory::CreateSource(const FString& ConnectionString) const
{
	FString Address = ConnectionString, Token, Host = TEXT("127.0.0.1"), Port = TEXT("5750");
	ConnectionString.Split(TEXT(" "), &Address, &Token);
	if (!Address.Split(TEXT(":"), &Host, &Port) && !Address.IsEmpty())
	{
		Host = Address;
	}
	return MakeShared<FMienLiveLinkSource>(Host, FCString::Atoi(*Port), Token);
}

#undef LOCTEXT_NAMESPACE
