in vec3 eye_position;
in vec3 eye_normal;
in float open_sky;
out vec4 colour;

void main() {
    vec3 normal = normalize(eye_normal);
    vec3 view = normalize(-eye_position);
    if (open_sky < -0.5) { // a lid over an open edge: where the head was cut
        colour = vec4(display(vec3(0.045, 0.030, 0.027) * (0.4 + 0.6 * max(dot(normal, view), 0.0))), 1.0);
    } else {
        colour = vec4(display(shade(normal, view, clamp(open_sky, 0.0, 1.0))), 1.0);
    }
}
