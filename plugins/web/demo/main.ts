/**
 * The demo page: the head, lit, seen from the front. `?url=ws://localhost:5751` names another gateway, `?token=...` its
 * secret; `?plain&fps=20` is for machines that draw without a GPU: heads arrive on time, pictures are fewer.
 */

import { Color, DirectionalLight, HemisphereLight, MeshStandardMaterial, PerspectiveCamera, Scene, Vector3, WebGLRenderer } from "three";
import { OrbitControls } from "three/addons/controls/OrbitControls.js";

import { MienHead } from "../src/index.js";

const asked = new URLSearchParams(location.search);
const head = new MienHead(new MeshStandardMaterial({ color: 0xc99c86, roughness: 0.65 }), {
  url: asked.get("url") ?? "ws://localhost:5751",
  request: asked.get("token") ? { token: asked.get("token") } : {},
});

const renderer = new WebGLRenderer({ antialias: !asked.has("plain") }) // ?plain: for machines that draw without a GPU;
document.body.append(renderer.domElement);
const scene = new Scene();
scene.background = new Color(0x20242a);
const key = new DirectionalLight(0xffffff, 2.2);
key.position.set(-0.6, 0.8, 1);
scene.add(head, key, new HemisphereLight(0xcfe0ff, 0x40342c, 1.2));
const camera = new PerspectiveCamera(30, 1, 0.01, 20);
const controls = new OrbitControls(camera, renderer.domElement);

let framed = false;
head.client.addEventListener("topology", () => (framed = false));

/** Look at the head from where its face looks to, once for each topology. */
function frame(): void {
  if (framed || !head.visible) return;
  head.geometry.computeBoundingSphere();
  const { center, radius } = head.geometry.boundingSphere!;
  controls.target.copy(center);
  camera.position.copy(center).add(new Vector3(0, 0, 4.4 * radius));
  framed = true;
}

function resize(): void {
  renderer.setSize(innerWidth, innerHeight);
  camera.aspect = innerWidth / innerHeight;
  camera.updateProjectionMatrix();
}

/** Ages of heads at the moment when their vertices were in the buffer, ms, by the clocks of both ends; for tests. */
const ages: number[] = [];
head.client.addEventListener("frame", () => {
  const time = head.client.newest?.captureTime ?? 0;
  ages.push(performance.timeOrigin + performance.now() - 1000 * time);
  if (ages.length > 6000) ages.splice(0, 3000);
});
let drawn = 0, drawnAt = 0;
/** Shortest time between two pictures, ms; four less, for a display's beat is not exact. */
const pause = asked.has("fps") ? 1000 / Number(asked.get("fps")) - 4 : 0;

function draw(now: number): void {
  if (now - drawnAt < pause) return;
  drawnAt = now;
  frame();
  controls.update();
  renderer.render(scene, camera);
  drawn += 1;
}

/** Not with each picture: a change of text lays the page out again. */
function tell(): void {
  const rate = head.client.health["meshes_per_s"] ?? 0;
  document.getElementById("status")!.textContent = `${head.client.status}\n${head.applied} heads, ${rate} a second`;
}

addEventListener("resize", resize);
resize();
renderer.setAnimationLoop(draw);
setInterval(tell, 250);
Object.assign(globalThis, { mien: { head, ages, camera, counts: () => ({ applied: head.applied, received: head.client.received, drawn }) } });
