// Lines and pictures that stand in the world.
uniform mat4 clip_from_world;
in vec3 in_position;
in vec2 in_place;
out vec2 at;

void main() {
    at = in_place;
    gl_Position = clip_from_world * vec4(in_position, 1.0);
}
