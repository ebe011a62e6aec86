// One program per material: software OpenGL pays for branches that are not taken.
uniform float opacity;
uniform vec3 flat_view; // direction to the viewer in an orthographic view; else 0
in vec3 eye_position;
in vec3 eye_normal;
in vec4 mark;
in float number;
#ifdef EDGE
in float cover;
#endif
#ifdef UV
in vec2 uv;
#endif
#ifdef HEAT
uniform sampler2D colours; // 256 x 1
uniform vec2 range;        // values of the first and the last colour
#endif
#ifdef TINT
uniform vec3 tint; // of a layer that is seen through, display RGB
#endif
out vec4 colour;

vec3 lit(vec3 normal, vec3 view, float open_sky) {
#if defined(SKIN) || defined(CLAY)
    return display(shade(normal, view, open_sky, number, mark.y));
#else
    float facing = max(dot(normal, view), 0.0);
    float light = (0.42 + 0.58 * max(dot(normal, KEY), 0.0)) * mix(0.55, 1.0, open_sky) + 0.12 * facing;
#if defined(WIRE) // what hides the lines behind it
    return vec3(0.075, 0.083, 0.096) * (0.6 + 0.6 * facing);
#elif defined(NORMALS)
    return 0.5 + 0.5 * normal;
#elif defined(UV)
    vec2 cells = uv * 32.0, inner = abs(fract(cells) - 0.5), width = fwidth(cells);
    float odd = mod(floor(cells.x) + floor(cells.y), 2.0);
    vec2 line = clamp((0.5 - inner) / max(width, 1e-5), 0.0, 1.0);
    vec3 base = mix(vec3(0.25), vec3(uv, 0.75 - 0.5 * uv.x), 0.85);
    return base * mix(0.72, 1.0, odd) * mix(0.55, 1.0, min(line.x, line.y)) * min(light * 1.15, 1.1);
#elif defined(HEAT)
    if (!(number >= -1e30)) { // nothing is known here
        return vec3(0.34) * light;
    }
    float place = clamp((number - range.x) / (range.y - range.x), 0.0, 1.0);
    return texture(colours, vec2((place * 255.0 + 0.5) / 256.0, 0.5)).rgb * min(light * 1.12, 1.05);
#elif defined(TINT)
    float rim = 1.0 - facing;
    return tint * (0.35 + 0.5 * light) + 0.35 * tint * rim * rim;
#else
    return vec3(0.6) * light;
#endif
#endif
}

void main() {
    vec3 normal = normalize(eye_normal);
    vec3 view = normalize(mix(-eye_position, flat_view, step(0.5, dot(flat_view, flat_view))));
    float sky = clamp(mark.x, 0.0, 1.0);
    vec3 seen;
#if defined(EYES) && !defined(EDGE)
    if (abs(mark.w) > 0.995) {
        seen = display(eyeball(eye_position, view, mark.w > 0.0 ? 0 : 1, sky));
    } else
#endif
    seen = lit(normal, view, sky);
    float alpha = opacity * clamp(mark.z, 0.0, 1.0);
#ifdef TINT
    float facing = max(dot(normal, view), 0.0);
    alpha *= 1.0 - step(0.5, abs(mark.w)); // sockets stay clear
    alpha *= 0.35 + 0.65 * (1.0 - facing) * (1.0 - facing); // glass: clear where one looks at it, dense at its edge
#endif
#ifdef EDGE
    alpha *= cover;
#else
    if (!gl_FrontFacing) { // the inside, seen through the cut of the neck
        seen = vec3(0.060, 0.050, 0.050);
    }
#endif
    colour = vec4(seen * alpha, alpha);
}
