// The head in the free view.
#ifdef GEOMETRY // a geometry stage stands between
#define eye_position g_position
#define eye_normal g_normal
#define mark g_mark
#define number g_number
#endif
uniform mat4 clip_from_world;
uniform mat4 eye_from_world;
#ifdef TINT
uniform mat4 clip_from_eye;
#endif
in vec3 in_position;
in vec3 in_normal;
in vec4 in_mark; // share of the sky that is open, blood under the skin, fade towards the cut of the neck, eye: left 1, right -1
in float in_number;
out vec3 eye_position;
out vec3 eye_normal;
out vec4 mark;
out float number;

void main() {
    eye_position = (eye_from_world * vec4(in_position, 1.0)).xyz;
    eye_normal = mat3(eye_from_world) * in_normal;
    mark = in_mark;
    number = in_number;
    gl_Position = clip_from_world * vec4(in_position, 1.0);
#ifdef TINT // 4 mm deeper than it is: no patches where it lies within a hair of the head
    vec4 deeper = clip_from_eye * vec4(eye_position - vec3(0.0, 0.0, 0.004), 1.0);
    gl_Position.z = deeper.z / deeper.w * gl_Position.w;
#endif
}
