// Over a camera's picture: turns a silhouette edge into a ribbon of one pixel to either side, whose cover falls to nothing: smooth edges for the price
// of a few hundred triangles, where four samples a pixel cost more than the head itself.
layout(lines) in;
layout(triangle_strip, max_vertices = 6) out;
uniform vec2 half_size; // of the viewport, px
uniform float reach;    // half width of the ribbon, px
out float cover;
in vec4 g_ink[];
out vec4 ink;

void put(int end, vec2 aside, float value) {
    vec4 spot = gl_in[end].gl_Position;
    spot.xy += aside / half_size * spot.w;
    spot.z -= 2e-5 * spot.w; // before the surface it borders
    gl_Position = spot;
    cover = value;
    ink = g_ink[end];
    EmitVertex();
}

void main() {
    vec4 a = gl_in[0].gl_Position, b = gl_in[1].gl_Position;
    if (a.w <= 0.0 || b.w <= 0.0) {
        return;
    }
    vec2 along = (b.xy / b.w - a.xy / a.w) * half_size;
    float size = length(along);
    if (size < 1e-4) {
        return;
    }
    vec2 aside = vec2(-along.y, along.x) / size * reach;
    put(0, aside, 0.0);
    put(1, aside, 0.0);
    put(0, vec2(0.0), 1.0);
    put(1, vec2(0.0), 1.0);
    put(0, -aside, 0.0);
    put(1, -aside, 0.0);
    EndPrimitive();
}
