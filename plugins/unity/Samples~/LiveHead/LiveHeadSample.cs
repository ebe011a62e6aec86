using Mien;
using UnityEngine;
using UnityEngine.Rendering;

/// <summary>On an empty object: makes a live head with a plain material, and draws its status.</summary>
public sealed class LiveHeadSample : MonoBehaviour
{
    [SerializeField] private Material material = null;
    private MienHead _head;

    private void Start()
    {
        var made = new GameObject("Mien Head");
        made.transform.SetParent(transform, false);
        _head = made.AddComponent<MienHead>();
        made.GetComponent<MeshRenderer>().sharedMaterial = material != null ? material : Plain();
    }

    private static Material Plain()
    {
        RenderPipelineAsset pipeline = GraphicsSettings.currentRenderPipeline;
        return pipeline != null ? pipeline.defaultMaterial : new Material(Shader.Find("Standard"));
    }

    private void OnGUI()
    {
        GUILayout.Label(_head.Status + ", " + _head.Applied + " heads, jawOpen " + _head.Weight("jawOpen").ToString("0.00"));
    }
}
