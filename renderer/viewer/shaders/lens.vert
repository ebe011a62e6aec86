// The head as a real camera sees it: streamer.geometry.project in float32, then to clip space with the depth as w.
#ifdef GEOMETRY // a geometry stage stands between
#define ink g_ink
#endif
uniform mat4 camera_from_world;
uniform mat2 focal;
uniform vec2 centre;
uniform float distortion[5]; // OpenCV k1 k2 p1 p2 k3
uniform vec2 size;           // calibrated picture, px
uniform vec2 depth_range;    // metres
uniform float limit_r2;
uniform vec3 tint;           // display RGB
uniform bool plain;          // the tint itself, without light
in vec3 in_position;
in vec3 in_normal;
in vec4 in_mark; // the first: share of the sky that is open
out vec4 ink;   // lit tint; below 0 in the last where the lens sees nothing
out vec2 pixel; // read back by the tests

// Light is computed per vertex: triangles are a few pixels here, and llvmpipe pays for every varying of every triangle.
vec3 lit(vec3 normal, vec3 view) {
    float key = max(dot(normal, normalize(vec3(-0.4, 0.5, 0.75))), 0.0);
    float facing = 1.0 - max(dot(normal, view), 0.0);
    vec3 light = tint * (0.30 + 0.72 * key) * mix(0.55, 1.0, in_mark.x) + 0.10 * key * key * key * key;
    return min(light + tint * 0.35 * facing * facing, 1.0); // a bright edge parts the mesh from the picture
}

void main() {
    vec3 point = (camera_from_world * vec4(in_position, 1.0)).xyz;
    float depth = max(point.z, 1e-3);
    vec2 ideal = point.xy / depth;
    float r2 = dot(ideal, ideal);
    bool valid = point.z > 1e-3 && r2 < limit_r2;
    float k1 = distortion[0], k2 = distortion[1], p1 = distortion[2], p2 = distortion[3], k3 = distortion[4];
    float radial = 1.0 + r2 * (k1 + r2 * (k2 + r2 * k3));
    vec2 seen = ideal * radial
        + vec2(2.0 * p1 * ideal.x * ideal.y + p2 * (r2 + 2.0 * ideal.x * ideal.x),
               p1 * (r2 + 2.0 * ideal.y * ideal.y) + 2.0 * p2 * ideal.x * ideal.y);
    pixel = focal * seen + centre;
    vec2 device = (2.0 * pixel + 1.0) / size - 1.0; // pixel centres are at integers
    float near = depth_range.x, far = depth_range.y;
    gl_Position = vec4(device.x * depth, -device.y * depth, ((far + near) * depth - 2.0 * far * near) / (far - near), depth);
    vec3 turned = mat3(camera_from_world) * in_normal;
    ink = vec4(plain ? tint : lit(vec3(turned.x, -turned.yz), normalize(vec3(-point.x, point.yz))), 1.0);
    if (!valid) {
        gl_Position = vec4(0.0, 0.0, 0.0, 1.0); // any finite place: fragments of such triangles are discarded
        ink.a = -1e6;
    }
}
