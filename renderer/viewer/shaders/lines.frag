uniform vec4 ink; // display RGB and opacity
in vec4 mark;
in vec3 corner;
out vec4 colour;

void main() {
    vec3 width = fwidth(corner);
    vec3 line = smoothstep(vec3(0.0), 1.2 * width, corner);
    float small = max(max(width.x, width.y), width.z); // one over the height of the triangle, px
    float cover = ink.a * mark.z * (1.0 - min(min(line.x, line.y), line.z)) * clamp(1.4 - 1.6 * small, 0.25, 1.0);
    colour = vec4(ink.rgb * cover, cover);
}
