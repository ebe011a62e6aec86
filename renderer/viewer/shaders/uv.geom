// Texture coordinates belong to corners, not to vertices: they are looked up by the number of the triangle.
layout(triangles) in;
layout(triangle_strip, max_vertices = 3) out;
uniform sampler2D corners; // six numbers a triangle, three texels, 1024 triangles a row
in vec3 g_position[];
in vec3 g_normal[];
in vec4 g_mark[];
out vec3 eye_position;
out vec3 eye_normal;
out vec4 mark;
out vec2 uv;

void main() {
    ivec2 first = ivec2(3 * (gl_PrimitiveIDIn % 1024), gl_PrimitiveIDIn / 1024);
    for (int i = 0; i < 3; i++) {
        gl_Position = gl_in[i].gl_Position;
        eye_position = g_position[i];
        eye_normal = g_normal[i];
        mark = g_mark[i];
        uv = texelFetch(corners, first + ivec2(i, 0), 0).rg;
        EmitVertex();
    }
    EndPrimitive();
}
