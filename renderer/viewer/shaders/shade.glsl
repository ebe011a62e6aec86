// Light on a head: the studio of studio.py, in eye axes (x right, y up, z to the viewer). Colours are linear until `display`.
uniform vec3 up_eye;
uniform vec3 eye_centre[2]; // left, right; eye axes, metres
uniform vec3 gaze[2];       // unit, eye axes
uniform float eye_radius[2];
#if defined(SKIN) || defined(CLAY)
uniform sampler2D body;   // what a white surface of this finish returns, by its normal
uniform sampler2D mirror; // what a mirror of this roughness returns to a viewer straight ahead, by its normal
uniform float edge;       // stereographic radius at the edge of both
uniform float range;      // largest value of both
#endif

const vec3 KEY = normalize(vec3(-0.66, 0.62, 0.44));
const vec3 CATCH = normalize(vec3(-0.42, 0.50, 0.76)); // of the key box what a cornea shows
const vec3 FILL = normalize(vec3(0.92, 0.02, 0.38));
const vec3 SKY = vec3(0.150, 0.170, 0.205);
const vec3 GROUND = vec3(0.070, 0.054, 0.046);
const vec3 KEY_COLOUR = vec3(1.30, 1.20, 1.09);
const vec3 FILL_COLOUR = vec3(0.12, 0.155, 0.215);

vec3 display(vec3 linear_colour) { // filmic shoulder, then a square root as display curve: cheaper than pow and close to sRGB
    vec3 x = max(linear_colour, 0.0);
    return sqrt(x * (2.51 * x + 0.03) / (x * (2.43 * x + 0.59) + 0.14));
}

float gloss(vec3 normal, vec3 view, vec3 light, float exponent) {
    return exp2(exponent * (dot(normal, normalize(light + view)) - 1.0)); // spherical Gaussian: a pow-free Blinn lobe
}

#if defined(SKIN) || defined(CLAY)
// `reached` is the share of the light that the rest of the head lets through (studio.py).
vec3 shade(vec3 normal, vec3 view, float open_sky, float reached, float blood) {
#ifdef CLAY
    vec3 albedo = vec3(0.30, 0.288, 0.275);
    float shine = 1.0, ground = 0.045;
#else
    vec3 albedo = mix(vec3(0.51, 0.315, 0.235), vec3(0.44, 0.160, 0.140), blood);
    float shine = 1.0 + 0.3 * blood, ground = 0.028;
#endif
    // A portrait lens looks straight ahead well enough: one place in both.
    vec2 place = normal.xy / (1.0 + max(normal.z, -0.7)) * (0.5 / edge) + 0.5;
    vec3 diffuse = texture(body, place).rgb, mirrored = texture(mirror, place).rgb;
    diffuse *= diffuse * range; // stored as roots
    mirrored *= mirrored * range;
    // Light that a fold throws to and fro before it leaves takes on the colour of the skin (after Jimenez et al. 2016).
    vec3 shadow = reached / (1.0 - albedo * (1.0 - reached) * 1.15) + albedo * albedo * 0.09;
    float away = 1.0 - max(dot(normal, view), 0.0), square = away * away;
    float fresnel = ground + (1.0 - ground) * 0.22 * square * square * away; // rough skin returns less at grazing angles
    return albedo * diffuse * shadow + shine * fresnel * mirrored * min(reached, open_sky);
}
#endif

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
    vec3 white = vec3(0.36, 0.345, 0.33), ring = vec3(0.12), inner = vec3(0.17);
#else
    vec3 white = vec3(0.61, 0.575, 0.54), ring = vec3(0.055, 0.062, 0.066), inner = vec3(0.16, 0.17, 0.15);
    white = mix(white, vec3(0.56, 0.37, 0.32), smoothstep(0.45, 0.95, angle)); // veins towards the corners
#endif
    vec3 albedo = mix(white, mix(inner, ring, smoothstep(0.22, 0.38, angle)), iris) * (1.0 - 0.96 * pupil);
    float shadow = mix(0.35, 1.0, smoothstep(0.05, 0.75, open_sky));
    float lit = 0.30 + 0.70 * max(dot(out_of, CATCH) * 0.8 + 0.2, 0.0);
    vec3 light = (mix(GROUND, SKY, 0.5 + 0.5 * dot(out_of, up_eye)) + KEY_COLOUR * lit + FILL_COLOUR * 0.5) * shadow;
    vec3 cornea = normalize(out_of + 0.6 * iris * (out_of - gaze[side])); // it bulges: a small, sharp image of the lamp
    float glint = 2.4 * gloss(cornea, view, CATCH, 170.0) + 0.10 * gloss(cornea, view, FILL, 300.0);
    return albedo * light + glint * shadow;
}
#endif
