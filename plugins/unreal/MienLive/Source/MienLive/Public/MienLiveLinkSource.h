#pragma once

#include "Containers/Ticker.h"
#include "CoreMinimal.h"
#include "ILiveLinkSource.h"

#include "MienRecords.h"

class FMienClient;

/** Two Live Link subjects: "Mien", expression weights as properties, and "MienPose", the rigid pose of the head. */
class MIENLIVE_API FMienLiveLinkSource final : public ILiveLinkSource
{
public:
	FMienLiveLinkSource(const FString& Host, int32 Port, const FString& Token);
	virtual ~FMienLiveLinkSource() override;

	virtual void ReceiveClient(ILiveLinkClient* InClient, FGuid InSourceGuid) override;
	virtual bool IsSourceStillValid() const override { return LiveLink != nullptr; }
	virtual bool RequestSourceShutdown() override;
	virtual FText GetSourceType() const override;
	virtual FText GetSourceMachineName() const override { return FText::FromString(Machine); }
	virtual FText GetSourceStatus() const override;

private:
	bool Tick(float Delta);
	void PushNames();
	void PushFrame();

	const FString Machine;
	TUniquePtr<FMienClient> Client;
	ILiveLinkClient* LiveLink = nullptr;
	FGuid Guid;
	FTSTicker::FDelegateHandle Ticker;
	mien::Topology Topology;
	mien::Frame Frame;
};
