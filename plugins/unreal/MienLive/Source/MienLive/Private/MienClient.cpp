#include "MienClient.h"

#include "Common/TcpSocketBuilder.h"
#include "HAL/PlatformProcess.h"
#include "HAL/PlatformTime.h"
#include "HAL/RunnableThread.h"
#include "IPAddress.h"
#include "Misc/ScopeLock.h"
#include "SocketSubsystem.h"
#include "Sockets.h"

DEFINE_LOG_CATEGORY_STATIC(LogMien, Log, All);

namespace
{
constexpr double PollSeconds = 0.1;    // how soon the thread notices that it is to end

FString FromUtf8(const std::string& Text)
{
	return FString(UTF8_TO_TCHAR(Text.c_str()));
}

}

FMienClient::FMienClient(const FString& InHost, int32 InPort, const FString& InToken, bool bInMesh)
	: Host(InHost), Port(InPort), Session("unreal", TCHAR_TO_UTF8(*InToken), bInMesh)
{
	Thread = FRunnableThread::Create(this, TEXT("Mien"));
}

FMienClient::~FMienClient()
{
	if (Thread)
	{
		Thread->Kill(true); // calls Stop and waits
		delete Thread;
	}
}

bool FMienClient::TakeTopology(mien::Topology& Taken)
{
	FScopeLock Guard(&Lock);
	if (!bFreshTopology)
	{
		return false;
	}
	std::swap(Taken, Topology);
	bFreshTopology = false;
	return true;
}

bool FMienClient::TakeFrame(mien::Frame& Taken)
{
	FScopeLock Guard(&Lock);
	if (!bFreshFrame || bFreshTopology)
	{
		return false;
	}
	std::swap(Taken, Frame);
	bFreshFrame = false;
	return true;
}

FString FMienClient::GetStatus() const
{
	FScopeLock Guard(&Lock);
	return Status;
}

uint32 FMienClient::Run()
{
	while (!bDone)
	{
		Talk();
		Say();
		Rest(Session.pause_s());
	}
	return 0;
}

void FMienClient::Talk()
{
	ISocketSubsystem* Sockets = ISocketSubsystem::Get(PLATFORM_SOCKETSUBSYSTEM);
	const FAddressInfoResult Found = Sockets->GetAddressInfo(*Host, *FString::FromInt(Port), EAddressInfoFlags::Default, NAME_None, ESocketType::SOCKTYPE_Streaming);
	FSocket* Socket = Found.Results.Num() ? Sockets->CreateSocket(NAME_Stream, TEXT("Mien"), Found.Results[0].Address->GetProtocolType()) : nullptr;
	Session.nobody(TCHAR_TO_UTF8(*FString::Printf(TEXT("%s:%d"), *Host, Port)));
	if (!Socket)
	{
		return;
	}
	Socket->SetNoDelay(true);
	int32 Given = 0;
	Socket->SetReceiveBufferSize(1 << 20, Given);
	if (Socket->Connect(*Found.Results[0].Address))
	{
		Receive(*Socket);
	}
	Socket->Close();
	Sockets->DestroySocket(Socket);
}

void FMienClient::Receive(FSocket& Socket)
{
	const std::vector<uint8_t> Request = Session.connected(FPlatformTime::Seconds());
	int32 Count = 0;
	if (!Socket.Send(Request.data(), static_cast<int32>(Request.size()), Count) || Count != static_cast<int32>(Request.size()))
	{
		return Session.hung_up();
	}
	mien::Message Message;
	TArray<uint8> Bytes;
	Bytes.SetNumUninitialized(1 << 18);
	while (!bDone)
	{
		Say();
		if (!Socket.Wait(ESocketWaitConditions::WaitForRead, FTimespan::FromSeconds(PollSeconds)))
		{
			if (Session.silent(FPlatformTime::Seconds()))
			{
				return;
			}
			continue;
		}
		if (!Socket.Recv(Bytes.GetData(), Bytes.Num(), Count) || Count == 0) // readable without bytes: hung up
		{
			return Session.hung_up();
		}
		const bool bStay = Session.received(Bytes.GetData(), static_cast<size_t>(Count), FPlatformTime::Seconds(), Message,
			[this](mien::Message& Heard) { Keep(Heard); });
		if (!bStay)
		{
			return;
		}
	}
}

void FMienClient::Keep(mien::Message& Message)
{
	FScopeLock Guard(&Lock);
	if (Message.kind == mien::Kind::topology)
	{
		std::swap(Topology, Message.topology);
		bFreshTopology = true;
		bFreshFrame = false; // a head of the old topology is of no use any more
	}
	else
	{
		std::swap(Frame, Message.frame); // buffers go round, nothing is allocated
		bFreshFrame = true;
	}
}

void FMienClient::Say()
{
	const FString What = FromUtf8(Session.status());
	FScopeLock Guard(&Lock);
	if (What != Status)
	{
		Status = What;
		UE_LOG(LogMien, Log, TEXT("%s"), *What);
	}
}

void FMienClient::Rest(double Seconds) const
{
	for (double Until = FPlatformTime::Seconds() + Seconds; !bDone && FPlatformTime::Seconds() < Until;)
	{
		FPlatformProcess::Sleep(0.02f);
	}
}
