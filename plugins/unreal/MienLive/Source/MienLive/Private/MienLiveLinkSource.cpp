#include "MienLiveLinkSource.h"

#include "ILiveLinkClient.h"
#include "Roles/LiveLinkBasicRole.h"
#include "Roles/LiveLinkBasicTypes.h"
#include "Roles/LiveLinkTransformRole.h"
#include "Roles/LiveLinkTransformTypes.h"

#include "MienClient.h"

#define LOCTEXT_NAMESPACE "Mien"

static const FName WeightsSubject(TEXT("Mien"));
static const FName PoseSubject(TEXT("MienPose"));

FMienLiveLinkSource::FMienLiveLinkSource(const FString& Host, int32 Port, const FString& Token)
	: Machine(FString::Printf(TEXT("%s:%d"), *Host, Port)), Client(MakeUnique<FMienClient>(Host, Port, Token, false))
{
}

FMienLiveLinkSource::~FMienLiveLinkSource()
{
	FTSTicker::GetCoreTicker().RemoveTicker(Ticker);
}

void FMienLiveLinkSource::ReceiveClient(ILiveLinkClient* InClient, FGuid InSourceGuid)
{
	LiveLink = InClient;
	Guid = InSourceGuid;
	Ticker = FTSTicker::GetCoreTicker().AddTicker(FTickerDelegate::CreateRaw(this, &FMienLiveLinkSource::Tick));
}

bool FMienLiveLinkSource::RequestSourceShutdown()
{
	FTSTicker::GetCoreTicker().RemoveTicker(Ticker);
	Client.Reset();
	LiveLink = nullptr;
	return true;
}

FText FMienLiveLinkSource::GetSourceType() const
{
	return LOCTEXT("SourceType", "Mien");
}

FText FMienLiveLinkSource::GetSourceStatus() const
{
	return FText::FromString(Client ? Client->GetStatus() : FString(TEXT("not connected")));
}

bool FMienLiveLinkSource::Tick(float)
{
	if (Client && LiveLink)
	{
		if (Client->TakeTopology(Topology))
		{
			PushNames();
		}
		if (Client->TakeFrame(Frame))
		{
			PushFrame();
		}
	}
	return true;
}

void FMienLiveLinkSource::PushNames()
{
	FLiveLinkStaticDataStruct Weights(FLiveLinkBaseStaticData::StaticStruct());
	for (const std::string& Unit : Topology.units)
	{
		Weights.GetBaseData()->PropertyNames.Add(FName(UTF8_TO_TCHAR(Unit.c_str())));
	}
	LiveLink->PushSubjectStaticData_AnyThread({ Guid, WeightsSubject }, ULiveLinkBasicRole::StaticClass(), MoveTemp(Weights));
	FLiveLinkStaticDataStruct Pose(FLiveLinkTransformStaticData::StaticStruct());
	Pose.Cast<FLiveLinkTransformStaticData>()->bIsScaleSupported = false;
	LiveLink->PushSubjectStaticData_AnyThread({ Guid, PoseSubject }, ULiveLinkTransformRole::StaticClass(), MoveTemp(Pose));
}

void FMienLiveLinkSource::PushFrame()
{
	if (Frame.has_weights && Frame.weights.size() == Topology.units.size())
	{
		FLiveLinkFrameDataStruct Weights(FLiveLinkBaseFrameData::StaticStruct());
		Weights.GetBaseData()->PropertyValues.Append(Frame.weights.data(), int32(Frame.weights.size()));
		LiveLink->PushSubjectFrameData_AnyThread({ Guid, WeightsSubject }, MoveTemp(Weights));
	}
	if (Frame.has_pose && Frame.pose.size() == 16)
	{
		FMatrix Matrix; // Unreal's vectors are rows: transposed
		for (int32 Row = 0; Row < 4; ++Row)
		{
			for (int32 Column = 0; Column < 4; ++Column)
			{
				Matrix.M[Row][Column] = Frame.pose[size_t(4 * Column + Row)];
			}
		}
		FLiveLinkFrameDataStruct Pose(FLiveLinkTransformFrameData::StaticStruct());
		Pose.Cast<FLiveLinkTransformFrameData>()->Transform = FTransform(Matrix);
		LiveLink->PushSubjectFrameData_AnyThread({ Guid, PoseSubject }, MoveTemp(Pose));
	}
}

#undef LOCTEXT_NAMESPACE
