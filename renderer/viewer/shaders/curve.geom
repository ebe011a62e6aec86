// A silhouette edge of the free view as a curve: Phong tessellation (Boubekeur and Alexa 2008) between the normals of its ends,
// the gap between edge and curve filled, and a ribbon of one pixel outside whose cover falls to nothing. Round heads of few
// triangles have round outlines, smoothed, for the price of a few hundred triangles.
layout(lines) in;
layout(triangle_strip, max_vertices = 20) out;
uniform mat4 clip_from_eye;
uniform vec2 half_size; // of the viewport, px
uniform float reach;    // width of the ribbon, px
in vec3 g_position[];
in vec3 g_normal[];
in vec4 g_mark[];
in float g_number[];
out float cover;
out vec3 eye_position;
out vec3 eye_normal;
out vec4 mark;
out float number;

const int STEPS = 4;

void put(vec3 point, vec3 normal, float t, vec2 aside, float value) {
    vec4 spot = clip_from_eye * vec4(point, 1.0);
    spot.xy += aside / half_size * spot.w;
    spot.z -= 2e-5 * spot.w; // before the surface it borders
    gl_Position = spot;
    cover = value;
    eye_position = point;
    eye_normal = normal;
    mark = mix(g_mark[0], g_mark[1], t);
    number = mix(g_number[0], g_number[1], t);
    EmitVertex();
}

void main() {
    if (gl_in[0].gl_Position.w <= 0.0 || gl_in[1].gl_Position.w <= 0.0) {
        return;
    }
    // Where the outline jumps between rows of triangles, normals do not lie in the screen, or the edge runs into its depth:
    // it bends no outline there.
    vec3 view = normalize(-(g_position[0] + g_position[1]));
    float tilt = max(abs(dot(g_normal[0], view)), abs(dot(g_normal[1], view)));
    vec3 along = g_position[1] - g_position[0];
    float across = length(along - dot(along, view) * view) / max(length(along), 1e-9);
    float bend = 0.75 * clamp(1.3 - 2.6 * tilt, 0.0, 1.0) * smoothstep(0.45, 0.85, across);
    vec3 chord[STEPS + 1], curve[STEPS + 1], normals[STEPS + 1];
    vec2 outward[STEPS + 1];
    for (int i = 0; i <= STEPS; i++) {
        float t = float(i) / float(STEPS);
        vec3 point = mix(g_position[0], g_position[1], t);
        vec3 onto_first = point - dot(point - g_position[0], g_normal[0]) * g_normal[0];
        vec3 onto_second = point - dot(point - g_position[1], g_normal[1]) * g_normal[1];
        chord[i] = point;
        curve[i] = mix(point, mix(onto_first, onto_second, t), bend);
        normals[i] = normalize(mix(g_normal[0], g_normal[1], t) + vec3(0.0, 0.0, 1e-6));
        outward[i] = normals[i].xy / max(length(normals[i].xy), 1e-3) * reach; // on an outline normals lie in the screen
    }
    for (int i = 0; i <= STEPS; i++) {
        float t = float(i) / float(STEPS);
        put(chord[i], normals[i], t, vec2(0.0), 1.0);
        put(curve[i], normals[i], t, vec2(0.0), 1.0);
    }
    EndPrimitive();
    for (int i = 0; i <= STEPS; i++) {
        float t = float(i) / float(STEPS);
        put(curve[i], normals[i], t, vec2(0.0), 1.0);
        put(curve[i], normals[i], t, outward[i], 0.0);
    }
    EndPrimitive();
}
