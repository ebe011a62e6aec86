// Light on a head: hemisphere, key, fill and rim, in eye axes (x right, y up, z to the viewer). Colours are linear until `display`.
uniform int material; // 0 skin, 1 clay
uniform vec3 up_eye;

const vec3 KEY = normalize(vec3(-0.62, 0.60, 0.62));
const vec3 FILL = normalize(vec3(0.86, 0.02, 0.45));
const vec3 RIM = normalize(vec3(0.55, 0.55, -0.72));

vec3 display(vec3 linear_colour) { // filmic shoulder, then a square root as display curve: cheaper than pow and close to sRGB
    vec3 x = max(linear_colour, 0.0);
    return sqrt(x * (2.51 * x + 0.03) / (x * (2.43 * x + 0.59) + 0.14));
}

float gloss(vec3 normal, vec3 view, vec3 light, float exponent) {
    return exp2(exponent * (dot(normal, normalize(light + view)) - 1.0)); // spherical Gaussian: a pow-free Blinn lobe
}

vec3 shade(vec3 normal, vec3 view, float open_sky) {
    bool skin = material == 0;
    vec3 albedo = skin ? vec3(0.56, 0.315, 0.225) : vec3(0.37, 0.36, 0.35);
    vec3 wrap = skin ? vec3(0.42, 0.16, 0.08) : vec3(0.06); // red light travels furthest under skin: warm terminator
    vec3 sky = vec3(0.46, 0.50, 0.58) * 0.46;
    vec3 ground = vec3(0.30, 0.23, 0.19) * 0.34;
    vec3 ambient = mix(ground, sky, 0.5 + 0.5 * dot(normal, up_eye));
    vec3 occlusion = skin ? mix(vec3(0.32, 0.10, 0.07), vec3(1.0), open_sky) * mix(0.75, 1.0, open_sky) : vec3(open_sky);
    float direct = mix(0.35, 1.0, open_sky);
    vec3 key = max((vec3(dot(normal, KEY)) + wrap) / (1.0 + wrap), 0.0) * vec3(1.0, 0.93, 0.84) * 1.30;
    vec3 fill = max((vec3(dot(normal, FILL)) + wrap) / (1.0 + wrap), 0.0) * vec3(0.62, 0.74, 0.95) * 0.42;
    vec3 rim = vec3(0.80, 0.90, 1.0) * max(dot(normal, RIM), 0.0) * 1.15;
    vec3 light = ambient * occlusion + (key + fill + rim) * mix(vec3(direct), occlusion, 0.35);
    float facing = 1.0 - max(dot(normal, view), 0.0);
    float fresnel = 0.035 + 0.5 * facing * facing * facing * facing * facing;
    float shine = skin ? 1.6 : 0.3;
    float lobes = 2.2 * gloss(normal, view, KEY, 34.0) + 1.6 * gloss(normal, view, KEY, 170.0)
        + 0.8 * gloss(normal, view, FILL, 34.0) + 1.2 * gloss(normal, view, RIM, 24.0);
    return albedo * light + shine * fresnel * lobes * direct + fresnel * sky * 0.35 * open_sky;
}
