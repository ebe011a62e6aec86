// Run by node: validates a .glb with Khronos' validator and opens it with three.js.
//   node gltf_read.mjs NODE_FOLDER FILE.glb TIME...   prints {errors, warnings, messages, names, ids, positions}
// positions: per time, xyz of every vertex in the world, morphed and moved as three.js does.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

const [folder, file, ...times] = process.argv.slice(2);
const modules = join(resolve(folder), 'node_modules');
const validator = createRequire(join(modules, 'index.js'))('gltf-validator');
const data = readFileSync(file);
const report = await validator.validateBytes(new Uint8Array(data));
const answer = {
  errors: report.issues.numErrors,
  warnings: report.issues.numWarnings,
  messages: report.issues.messages.slice(0, 5),
};
if (file.endsWith('.glb')) {
  const THREE = await import(pathToFileURL(join(modules, 'three/build/three.module.js')));
  const { GLTFLoader } = await import(pathToFileURL(join(modules, 'three/examples/jsm/loaders/GLTFLoader.js')));
  const bytes = data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength);
  const gltf = await new GLTFLoader().parseAsync(bytes, '');
  let mesh;
  gltf.scene.traverse((node) => { if (node.isMesh) mesh = node; });
  const mixer = new THREE.AnimationMixer(gltf.scene);
  const action = mixer.clipAction(gltf.animations[0]);
  action.setLoop(THREE.LoopOnce);
  action.clampWhenFinished = true;
  action.play();
  const point = new THREE.Vector3();
  answer.names = Object.keys(mesh.morphTargetDictionary ?? {});
  answer.ids = Array.from(mesh.geometry.attributes._vertex.array);
  answer.positions = times.map((time) => {
    mixer.setTime(Number(time));
    gltf.scene.updateMatrixWorld(true);
    return answer.ids.flatMap((_, i) => mesh.getVertexPosition(i, point).applyMatrix4(mesh.matrixWorld).toArray());
  });
}
console.log(JSON.stringify(answer));
