// Gives each fragment its place in its triangle: edges of the mesh, smooth, over the surface.
layout(triangles) in;
layout(triangle_strip, max_vertices = 3) out;
in vec4 g_mark[];
out vec4 mark;
out vec3 corner;

void main() {
    for (int i = 0; i < 3; i++) {
        gl_Position = gl_in[i].gl_Position;
        gl_Position.z -= 2e-5 * gl_Position.w;
        mark = g_mark[i];
        corner = vec3(i == 0, i == 1, i == 2);
        EmitVertex();
    }
    EndPrimitive();
}
