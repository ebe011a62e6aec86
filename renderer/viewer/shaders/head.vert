// The head in the free view.
uniform mat4 clip_from_world;
uniform mat4 eye_from_world;
in vec3 in_position;
in vec3 in_normal;
in float in_open_sky;
out vec3 eye_position;
out vec3 eye_normal;
out float open_sky;

void main() {
    eye_position = (eye_from_world * vec4(in_position, 1.0)).xyz;
    eye_normal = mat3(eye_from_world) * in_normal;
    open_sky = in_open_sky;
    gl_Position = clip_from_world * vec4(in_position, 1.0);
}
