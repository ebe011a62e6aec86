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
constexpr double RetrySeconds = 0.5;
constexpr double RefusedSeconds = 3.0; // a server that does not speak our language will not learn at once
constexpr double SilenceSeconds = 5.0; // health comes each second
constexpr double PollSeconds = 0.1;    // how soon the thread notices that it is to end

FString FromUtf8(const std::string& Text)
{
	return FString(UTF8_TO_TCHAR(Text.c_str()));
}

FString Quoted(const FString& Text)
{
	return TEXT("\"") + Text.Replace(TEXT("\\"), TEXT("\\\\")).Replace(TEXT("\""), TEXT("\\\"")) + TEXT("\"");
}
}

FMienClient::FMienClient(const FString& InHost, int32 InPort, const FString& InToken, bool bInMesh)
	: Host(InHost), Token(InToken), Port(InPort), bMesh(bInMesh)
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
		PauseSeconds = RetrySeconds;
		Talk();
		Rest(PauseSeconds);
	}
	return 0;
}

void FMienClient::Talk()
{
	ISocketSubsystem* Sockets = ISocketSubsystem::Get(PLATFORM_SOCKETSUBSYSTEM);
	const FAddressInfoResult Found = Sockets->GetAddressInfo(*Host, *FString::FromInt(Port), EAddressInfoFlags::Default, NAME_None, ESocketType::SOCKTYPE_Streaming);
	FSocket* Socket = Found.Results.Num() ? Sockets->CreateSocket(NAME_Stream, TEXT("Mien"), Found.Results[0].Address->GetProtocolType()) : nullptr;
	const FString Nobody = FString::Printf(TEXT("nobody answers at %s:%d; is `mien serve` running?"), *Host, Port);
	if (!Socket)
	{
		Say(Nobody);
		return;
	}
	Socket->SetNoDelay(true);
	int32 Given = 0;
	Socket->SetReceiveBufferSize(1 << 20, Given);
	if (!Socket->Connect(*Found.Results[0].Address) || !Greet(*Socket))
	{
		Say(Nobody);
	}
	else
	{
		Say(TEXT("connected; waiting for a head"));
		Receive(*Socket);
	}
	Socket->Close();
	Sockets->DestroySocket(Socket);
}

bool FMienClient::Greet(FSocket& Socket) const
{
	FString Asked = TEXT("{\"target\":\"unreal\",\"split\":true,\"normals\":true");
	Asked += bMesh ? TEXT("") : TEXT(",\"mesh\":false");
	Asked += Token.IsEmpty() ? FString() : TEXT(",\"token\":") + Quoted(Token);
	Asked += TEXT("}");
	const std::vector<uint8_t> Record = mien::encode_request(TCHAR_TO_UTF8(*Asked));
	int32 Sent = 0;
	return Socket.Send(Record.data(), static_cast<int32>(Record.size()), Sent) && Sent == static_cast<int32>(Record.size());
}

void FMienClient::Receive(FSocket& Socket)
{
	Reader.reset();
	mien::Message Message;
	TArray<uint8> Bytes;
	Bytes.SetNumUninitialized(1 << 18);
	bool bAnswered = false;
	double HeardSeconds = FPlatformTime::Seconds();
	while (!bDone)
	{
		if (!Socket.Wait(ESocketWaitConditions::WaitForRead, FTimespan::FromSeconds(PollSeconds)))
		{
			if (FPlatformTime::Seconds() - HeardSeconds > SilenceSeconds)
			{
				return Say(TEXT("the server has fallen silent; connecting again"));
			}
			continue;
		}
		int32 Count = 0;
		if (!Socket.Recv(Bytes.GetData(), Bytes.Num(), Count) || Count == 0) // readable without bytes: hung up
		{
			Reader.close();
			return Say(Reader.fault() == mien::Fault::none ? TEXT("the server hung up; connecting again") : FromUtf8(Reader.error()));
		}
		HeardSeconds = FPlatformTime::Seconds();
		Reader.feed(Bytes.GetData(), static_cast<size_t>(Count));
		mien::Step Step;
		while ((Step = Reader.next(Message)) == mien::Step::message)
		{
			if (!Accept(Message, bAnswered))
			{
				return;
			}
		}
		if (Step == mien::Step::failed)
		{
			PauseSeconds = RefusedSeconds;
			return Say(FromUtf8(Reader.error()));
		}
	}
}

bool FMienClient::Accept(mien::Message& Message, bool& bAnswered)
{
	if (Message.kind == mien::Kind::end)
	{
		Say(TEXT("the server says: ") + FromUtf8(Message.text) + TEXT("; connecting again"));
		return false;
	}
	if (Message.kind == mien::Kind::hello)
	{
		if (Message.about.truth("token") && Token.IsEmpty())
		{
			PauseSeconds = RefusedSeconds;
			Say(TEXT("the server asks for a token: that of its serve.token_file"));
			return false;
		}
		bAnswered = Message.about.string("target") == "unreal";
	}
	if (!bAnswered) // still in a form that was not asked for
	{
		return true;
	}
	if (Message.kind == mien::Kind::topology)
	{
		const FString Name = Message.topology.name.empty() ? FString(TEXT("head")) : FromUtf8(Message.topology.name);
		Say(FString::Printf(TEXT("live: %s, %u vertices"), *Name, Message.topology.vertices));
		FScopeLock Guard(&Lock);
		std::swap(Topology, Message.topology);
		bFreshTopology = true;
		bFreshFrame = false; // a head of the old topology is of no use any more
	}
	else if (Message.kind == mien::Kind::frame || Message.kind == mien::Kind::weights)
	{
		FScopeLock Guard(&Lock);
		std::swap(Frame, Message.frame); // buffers go round, nothing is allocated
		bFreshFrame = true;
	}
	return true;
}

void FMienClient::Say(const FString& What)
{
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
