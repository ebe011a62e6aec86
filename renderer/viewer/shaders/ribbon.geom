// A line as a ribbon whose cover falls to nothing at both sides.
layout(lines) in;
layout(triangle_strip, max_vertices = 4) out;
uniform vec2 half_size; // of the viewport, px
uniform float reach;    // half width, px
out float side;

void main() {
    vec4 a = gl_in[0].gl_Position, b = gl_in[1].gl_Position;
    if (min(a.w, b.w) < 1e-4) { // behind the eye: bring that end to the near plane
        float near = 1e-3;
        if (max(a.w, b.w) < near) {
            return;
        }
        vec4 cut = mix(a, b, (near - a.w) / (b.w - a.w));
        if (a.w < b.w) a = cut; else b = cut;
    }
    vec2 along = (b.xy / b.w - a.xy / a.w) * half_size;
    vec2 aside = vec2(-along.y, along.x) / max(length(along), 1e-4) * reach / half_size;
    for (int i = 0; i < 4; i++) {
        vec4 spot = i < 2 ? a : b;
        side = i % 2 == 0 ? -1.0 : 1.0;
        gl_Position = spot + vec4(aside * side * spot.w, 0.0, 0.0);
        EmitVertex();
    }
    EndPrimitive();
}
