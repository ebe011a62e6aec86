// Points of a raw scan, lit by their normals; those without one are flat.
uniform mat4 clip_from_world;
uniform mat4 eye_from_world;
uniform float size; // px
uniform vec3 tint;  // display RGB
in vec3 in_position;
in vec3 in_normal;
out vec3 ink;

void main() {
    vec3 normal = mat3(eye_from_world) * in_normal;
    float known = step(0.5, dot(normal, normal));
    float key = max(dot(normal, normalize(vec3(-0.50, 0.62, 0.60))), 0.0), facing = max(normal.z, 0.0);
    ink = tint * mix(0.85, 0.30 + 0.60 * key + 0.20 * facing, known);
    gl_PointSize = size;
    bool away = known > 0.5 && normal.z < -0.15; // the far side of a surface
    gl_Position = away ? vec4(0.0, 0.0, 2.0, 1.0) : clip_from_world * vec4(in_position, 1.0);
}
