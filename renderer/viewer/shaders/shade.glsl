// Light on a head: hemisphere, key, fill and rim, in eye axes (x right, y up, z to the viewer). Colours are linear until `display`.
uniform vec3 up_eye;
uniform vec3 eye_centre[2]; // left, right; eye axes, metres
uniform vec3 gaze[2];       // unit, eye axes
uniform float eye_radius[2];

const vec3 KEY = normalize(vec3(-0.58, 0.62, 0.60));
const vec3 FILL = normalize(vec3(0.88, 0.00, 0.45));
const vec3 RIM = normalize(vec3(0.60, 0.50, -0.68));
const vec3 SKY = vec3(0.46, 0.50, 0.58) * 0.50;
const vec3 GROUND = vec3(0.32, 0.24, 0.20) * 0.34;
const vec3 KEY_COLOUR = vec3(1.0, 0.93, 0.85) * 1.12;
const vec3 FILL_COLOUR = vec3(0.62, 0.74, 0.95) * 0.36;
const vec3 RIM_COLOUR = vec3(0.80, 0.90, 1.0) * 1.25;

vec3 display(vec3 linear_colour) { // filmic shoulder, then a square root as display curve: cheaper than pow and close to sRGB
    vec3 x = max(linear_colour, 0.0);
    return sqrt(x * (2.51 * x + 0.03) / (x * (2.43 * x + 0.59) + 0.14));
}

float gloss(vec3 normal, vec3 view, vec3 light, float exponent) {
    return exp2(exponent * (dot(normal, normalize(light + view)) - 1.0)); // spherical Gaussian: a pow-free Blinn lobe
}

// The same for a view straight ahead, with which a portrait lens does well enough: the half vector is a constant.
float lobe(float towards, float exponent) {
    return exp2(exponent * (towards - 1.0));
}

const vec3 KEY_HALF = normalize(KEY + vec3(0.0, 0.0, 1.0));
const vec3 FILL_HALF = normalize(FILL + vec3(0.0, 0.0, 1.0));
const vec3 RIM_HALF = normalize(RIM + vec3(0.0, 0.0, 1.0));

vec3 shade(vec3 normal, vec3 view, float open_sky, float blood) {
#ifdef CLAY
    vec3 albedo = vec3(0.235, 0.225, 0.215), wrap = vec3(0.06), occlusion = vec3(open_sky);
    float shine = 0.30;
#else
    vec3 albedo = mix(vec3(0.47, 0.283, 0.208), vec3(0.42, 0.130, 0.110), blood);
    vec3 wrap = vec3(0.30, 0.13, 0.08); // red light travels furthest under skin: warm terminator
    vec3 occlusion = mix(vec3(0.30, 0.10, 0.07), vec3(1.0), open_sky) * mix(0.70, 1.0, open_sky);
    float shine = 1.1 + 0.9 * blood;
#endif
    vec3 ambient = mix(GROUND, SKY, 0.5 + 0.5 * dot(normal, up_eye));
    float direct = mix(0.25, 1.0, open_sky);
    vec3 key = max((vec3(dot(normal, KEY)) + wrap) / (1.0 + wrap), 0.0) * KEY_COLOUR;
    vec3 fill = max((vec3(dot(normal, FILL)) + wrap) / (1.0 + wrap), 0.0) * FILL_COLOUR;
    vec3 rim = RIM_COLOUR * max(dot(normal, RIM), 0.0);
    vec3 light = ambient * occlusion + (key + fill + rim) * mix(vec3(direct), occlusion, 0.35);
    float facing = 1.0 - max(dot(normal, view), 0.0);
    float fresnel = 0.035 + 0.5 * facing * facing * facing * facing * facing;
    float ahead = dot(normal, KEY_HALF);
    float lobes = 2.2 * lobe(ahead, 34.0) + 1.5 * lobe(ahead, 150.0) + 0.8 * lobe(dot(normal, FILL_HALF), 34.0)
        + 1.2 * lobe(dot(normal, RIM_HALF), 24.0);
    return albedo * light + shine * fresnel * lobes * direct + fresnel * SKY * 0.35 * open_sky;
}

#ifdef EYES
// A neutral eye in the socket: white, iris, pupil and the light in the cornea. The fragment is one of the lining behind
// it: the ray is brought forward to the ball.
vec3 eyeball(vec3 position, vec3 view, int side, float open_sky) {
    vec3 from_centre = position - eye_centre[side];
    float middle = dot(from_centre, view), inside = middle * middle - dot(from_centre, from_centre) + eye_radius[side] * eye_radius[side];
    if (inside <= 0.0) { // past the ball: the lining, in its shade
        return vec3(0.16, 0.065, 0.050);
    }
    vec3 out_of = (from_centre + view * (sqrt(inside) - middle)) / eye_radius[side];
    open_sky = 0.55 + 0.45 * smoothstep(0.2, 0.95, out_of.z); // lids and brow cast their shade on the sides
    float angle = sqrt(max(2.0 - 2.0 * dot(out_of, gaze[side]), 0.0));
    float soft = 0.7 * fwidth(angle) + 0.008;
    float iris = 1.0 - smoothstep(0.385 - soft, 0.385 + soft, angle);
    float pupil = 1.0 - smoothstep(0.150 - soft, 0.150 + soft, angle);
#ifdef CLAY
    vec3 white = vec3(0.27, 0.26, 0.25), ring = vec3(0.12), inner = vec3(0.17);
#else
    vec3 white = vec3(0.56, 0.52, 0.49), ring = vec3(0.055, 0.062, 0.066), inner = vec3(0.16, 0.17, 0.15);
    white = mix(white, vec3(0.50, 0.33, 0.29), smoothstep(0.45, 0.95, angle)); // veins towards the corners
#endif
    vec3 albedo = mix(white, mix(inner, ring, smoothstep(0.22, 0.38, angle)), iris) * (1.0 - 0.96 * pupil);
    float shadow = mix(0.35, 1.0, smoothstep(0.05, 0.75, open_sky));
    float lit = 0.30 + 0.70 * max(dot(out_of, KEY) * 0.8 + 0.2, 0.0);
    vec3 light = (mix(GROUND, SKY, 0.5 + 0.5 * dot(out_of, up_eye)) + KEY_COLOUR * lit + FILL_COLOUR * 0.5) * shadow;
    vec3 cornea = normalize(out_of + 0.6 * iris * (out_of - gaze[side])); // it bulges: a small, sharp image of the lamp
    float glint = 2.0 * gloss(cornea, view, KEY, 700.0) + 0.10 * gloss(cornea, view, FILL, 300.0);
    return albedo * light + glint * shadow;
}
#endif
