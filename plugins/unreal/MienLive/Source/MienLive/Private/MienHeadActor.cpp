#include "MienHeadActor.h"

#include "MienHeadComponent.h"

AMienHeadActor::AMienHeadActor()
{
	Head = CreateDefaultSubobject<UMienHeadComponent>(TEXT("Head"));
	RootComponent = Head;
}
