using UnrealBuildTool;

public class MienLive : ModuleRules
{
    public MienLive(ReadOnlyTargetRules Target) : base(Target)
    {
        PCHUsage = PCHUsageMode.UseExplicitOrSharedPCHs;
        CppStandard = CppStandardVersion.Cpp20;
        PublicDependencyModuleNames.AddRange(new[] { "Core", "CoreUObject", "Engine", "GeometryCore", "GeometryFramework", "LiveLinkInterface" });
        PrivateDependencyModuleNames.AddRange(new[] { "Networking", "Sockets" });
    }
}
