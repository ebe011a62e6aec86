// The connection to the gateway: a thread that reads all the time and keeps the newest head, nothing older.
#pragma once

#include "CoreMinimal.h"
#include "HAL/CriticalSection.h"
#include "HAL/Runnable.h"
#include "HAL/ThreadSafeBool.h"

#include "MienSession.h"

class FRunnableThread;
class FSocket;

/** Connects, reconnects, decodes (mien::Session), on a raw socket. All public functions may be called from the game thread. */
class MIENLIVE_API FMienClient final : public FRunnable
{
public:
	/** @param Mesh false: weights and pose only. Token: what stands in the file of serve.token_file, or empty. */
	FMienClient(const FString& Host, int32 Port, const FString& Token, bool bMesh);
	virtual ~FMienClient() override;

	/** Swaps the newest topology out if it was not taken yet. */
	bool TakeTopology(mien::Topology& Topology);

	/** Swaps the newest frame out if it was not taken yet; false while its topology waits to be taken. */
	bool TakeFrame(mien::Frame& Frame);

	/** One line for people: what is going on, and what to do if nothing moves. */
	FString GetStatus() const;

	virtual uint32 Run() override;
	virtual void Stop() override { bDone = true; }

private:
	void Talk();
	void Receive(FSocket& Socket);
	void Keep(mien::Message& Message);
	void Say();
	void Rest(double Seconds) const;

	const FString Host;
	const int32 Port;
	mien::Session Session; // of the thread alone
	FThreadSafeBool bDone = false;
	FRunnableThread* Thread = nullptr;

	mutable FCriticalSection Lock;
	mien::Topology Topology;
	mien::Frame Frame;
	FString Status;
	bool bFreshTopology = false, bFreshFrame = false;
};
