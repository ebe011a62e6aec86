#pragma once

#include "Components/DynamicMeshComponent.h"
#include "CoreMinimal.h"

#include "MienRecords.h"

#include "MienHeadComponent.generated.h"

class FMienClient;

/** The live head as a dynamic mesh: centimetres, face along +X, where the rig saw it relative to this component. */
UCLASS(ClassGroup = (Mien), meta = (BlueprintSpawnableComponent))
class MIENLIVE_API UMienHeadComponent : public UDynamicMeshComponent
{
	GENERATED_BODY()

public:
	UMienHeadComponent(const FObjectInitializer& Initializer);

	/** Where `mien serve` runs. */
	UPROPERTY(EditAnywhere, BlueprintReadWrite, Category = "Mien")
	FString Host = TEXT("127.0.0.1");

	/** Its serve.tcp_port. */
	UPROPERTY(EditAnywhere, BlueprintReadWrite, Category = "Mien", meta = (ClampMin = "1", ClampMax = "65535"))
	int32 Port = 5750;

	/** What stands in the file of its serve.token_file; not saved. */
	UPROPERTY(EditAnywhere, Transient, BlueprintReadWrite, Category = "Mien")
	FString Token;

	/** One line: what is going on, and what to do if nothing moves. */
	UFUNCTION(BlueprintPure, Category = "Mien")
	FString GetStatus() const;

	/** An expression weight of the newest head in 0 to 1, such as jawOpen; 0 if there is none of this name. */
	UFUNCTION(BlueprintPure, Category = "Mien")
	float GetWeight(const FString& Unit) const;

	/** Heads that reached the mesh. */
	UFUNCTION(BlueprintPure, Category = "Mien")
	int32 GetApplied() const { return Applied; }

	virtual void BeginPlay() override;
	virtual void EndPlay(const EEndPlayReason::Type Reason) override;
	virtual void TickComponent(float Delta, ELevelTick Type, FActorComponentTickFunction* Function) override;

private:
	void Build();
	void Follow();

	TUniquePtr<FMienClient> Client;
	mien::Topology Topology;
	mien::Frame Frame;
	int32 Applied = 0;
};
