/** The head as a three.js mesh that follows the stream. Axes, unit and winding are three.js's own: +Y up, metres. */

import { BufferAttribute, BufferGeometry, DynamicDrawUsage, Mesh, type Material } from "three";

import { MienClient, type Options } from "./client.js";

/**
 * A mesh whose vertices are those of the newest head as soon as it arrives; it is drawn whenever the page draws.
 *
 * Weights: `head.weight("jawOpen")`. Pose: `head.client.newest.pose`. In world space: put it into a group to move it.
 */
export class MienHead extends Mesh<BufferGeometry, Material> {
  readonly client: MienClient;
  /** Heads that reached the vertex buffer. */
  applied = 0;

  constructor(material: Material, options: Options = {}) {
    super(new BufferGeometry(), material);
    this.frustumCulled = false; // vertices move on, a bounding sphere would be stale
    this.visible = false;
    this.client = new MienClient({ ...options, request: { normals: true, split: true, ...options.request } });
    this.client.addEventListener("topology", () => this.build());
    this.client.addEventListener("frame", () => this.follow());
  }

  /** Value of an expression unit in 0 to 1, undefined if the stream has none of this name. */
  weight(unit: string): number | undefined {
    const index = this.client.topology?.units.indexOf(unit) ?? -1;
    return index < 0 ? undefined : this.client.newest?.weights?.[index];
  }

  /** Hangs up and frees the geometry. */
  close(): void {
    this.client.close();
    this.geometry.dispose();
  }

  private build(): void {
    const topology = this.client.topology!;
    const geometry = new BufferGeometry(), size = 3 * topology.vertices;
    for (const name of ["position", "normal"]) {
      geometry.setAttribute(name, new BufferAttribute(new Float32Array(size), 3).setUsage(DynamicDrawUsage));
    }
    if (topology.uv && topology.source) geometry.setAttribute("uv", new BufferAttribute(topology.uv.slice(), 2));
    geometry.setIndex(new BufferAttribute(topology.triangles.slice(), 1));
    this.geometry.dispose();
    this.geometry = geometry;
    this.visible = false; // until its first vertices are there
  }

  private follow(): void {
    const frame = this.client.newest!;
    if (frame.kind !== "frame") return;
    const { position, normal } = this.geometry.attributes as Record<string, BufferAttribute>;
    (position!.array as Float32Array).set(frame.positions);
    position!.needsUpdate = true;
    if (frame.normals) {
      (normal!.array as Float32Array).set(frame.normals);
      normal!.needsUpdate = true;
    } else {
      this.geometry.computeVertexNormals();
    }
    this.visible = true;
    this.applied += 1;
  }
}
