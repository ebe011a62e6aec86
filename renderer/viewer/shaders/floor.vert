uniform mat4 clip_from_world;
uniform vec3 middle;  // metres, world
uniform float reach;  // metres
in vec2 in_place;
out vec2 ground;      // metres from the middle

void main() {
    ground = in_place * reach;
    gl_Position = clip_from_world * vec4(middle.x + ground.x, middle.y, middle.z + ground.y, 1.0);
}
