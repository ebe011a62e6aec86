// Gives each fragment its place in its triangle, so that lines can be drawn smooth and hidden ones stay hidden.
layout(triangles) in;
layout(triangle_strip, max_vertices = 3) out;
in vec4 g_ink[];
out vec4 ink;
out vec3 corner;

void main() {
    for (int i = 0; i < 3; i++) {
        ink = g_ink[i];
        corner = vec3(i == 0, i == 1, i == 2);
        gl_Position = gl_in[i].gl_Position;
        EmitVertex();
    }
    EndPrimitive();
}
