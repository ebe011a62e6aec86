#include "MienHeadComponent.h"

#include "DynamicMesh/DynamicMesh3.h"
#include "DynamicMesh/DynamicMeshAttributeSet.h"

#include "MienClient.h"

using UE::Geometry::FDynamicMesh3;
using UE::Geometry::FIndex3i;

UMienHeadComponent::UMienHeadComponent(const FObjectInitializer& Initializer)
	: Super(Initializer)
{
	PrimaryComponentTick.bCanEverTick = true;
	PrimaryComponentTick.TickGroup = TG_PrePhysics;
	SetCollisionEnabled(ECollisionEnabled::NoCollision);
}

void UMienHeadComponent::BeginPlay()
{
	Super::BeginPlay();
	Client = MakeUnique<FMienClient>(Host, Port, Token, true);
}

void UMienHeadComponent::EndPlay(const EEndPlayReason::Type Reason)
{
	Client.Reset();
	Super::EndPlay(Reason);
}

FString UMienHeadComponent::GetStatus() const
{
	return Client ? Client->GetStatus() : FString(TEXT("not connected"));
}

float UMienHeadComponent::GetWeight(const FString& Unit) const
{
	const FTCHARToUTF8 Name(*Unit);
	for (size_t K = 0; K < Topology.units.size() && K < Frame.weights.size(); ++K)
	{
		if (Topology.units[K] == Name.Get())
		{
			return Frame.weights[K];
		}
	}
	return 0.0f;
}

void UMienHeadComponent::TickComponent(float Delta, ELevelTick Type, FActorComponentTickFunction* Function)
{
	Super::TickComponent(Delta, Type, Function);
	if (!Client)
	{
		return;
	}
	if (Client->TakeTopology(Topology))
	{
		Build();
	}
	if (Client->TakeFrame(Frame) && !Frame.positions.empty())
	{
		Follow();
	}
}

void UMienHeadComponent::Build()
{
	FDynamicMesh3 Mesh;
	Mesh.EnableAttributes();
	auto* Normals = Mesh.Attributes()->PrimaryNormals();
	auto* UVs = Mesh.Attributes()->PrimaryUV();
	const bool bTextured = Topology.has_uv && Topology.has_source; // split: coordinate k is that of vertex k
	for (uint32 K = 0; K < Topology.vertices; ++K)
	{
		Mesh.AppendVertex(FVector3d::Zero());
		Normals->AppendElement(FVector3f(1.0f, 0.0f, 0.0f));
		const bool bThere = bTextured && 2 * size_t(K) + 1 < Topology.uv.size();
		UVs->AppendElement(bThere ? FVector2f(Topology.uv[2 * K], 1.0f - Topology.uv[2 * K + 1]) : FVector2f::Zero()); // v down
	}
	int32 Refused = 0;
	for (size_t T = 0; T + 2 < Topology.triangles.size(); T += 3)
	{
		const FIndex3i Corners(int32(Topology.triangles[T]), int32(Topology.triangles[T + 1]), int32(Topology.triangles[T + 2]));
		const int32 Id = Mesh.AppendTriangle(Corners);
		if (Id < 0) // an edge of three triangles, or a triangle twice
		{
			++Refused;
			continue;
		}
		Normals->SetTriangle(Id, Corners);
		UVs->SetTriangle(Id, Corners);
	}
	if (Refused)
	{
		UE_LOG(LogTemp, Warning, TEXT("Mien: %d triangles are not manifold and are left out"), Refused);
	}
	SetMesh(MoveTemp(Mesh));
	SetVisibility(false); // until its first vertices are there
}

void UMienHeadComponent::Follow()
{
	FDynamicMesh3* Mesh = GetMesh();
	const int32 Count = int32(Frame.positions.size() / 3);
	if (Mesh->MaxVertexID() != Count)
	{
		return; // of another topology: the next tick has it
	}
	for (int32 K = 0; K < Count; ++K)
	{
		const float* P = &Frame.positions[3 * size_t(K)];
		Mesh->SetVertex(K, FVector3d(P[0], P[1], P[2]), false);
	}
	const bool bNormals = Frame.has_normals && Frame.normals.size() == Frame.positions.size();
	auto* Normals = Mesh->Attributes()->PrimaryNormals();
	for (int32 K = 0; bNormals && K < Count; ++K)
	{
		const float* N = &Frame.normals[3 * size_t(K)];
		Normals->SetElement(K, FVector3f(N[0], N[1], N[2]));
	}
	FastNotifyPositionsUpdated(bNormals);
	SetVisibility(true);
	++Applied;
}
