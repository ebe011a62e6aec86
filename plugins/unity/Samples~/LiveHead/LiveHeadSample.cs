using Mien;
using UnityEngine;

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
        made.GetComponent<MeshRenderer>().sharedMaterial = material;
    }

    private void OnGUI()
    {
        GUILayout.Label(_head.Status + ", " + _head.Applied + " heads, jawOpen " + _head.Weight("jawOpen").ToString("0.00"));
    }
}
