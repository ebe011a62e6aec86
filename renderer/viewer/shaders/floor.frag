// Grid of 10 cm, lines of one pixel, fading out; a soft contact shadow under the head.
uniform float reach;
uniform vec2 footprint; // half axes of the shadow, metres
in vec2 ground;
out vec4 colour;

float lines(vec2 cells) {
    vec2 width = fwidth(cells);
    vec2 near = abs(fract(cells - 0.5) - 0.5) / max(width, 1e-6);
    vec2 ink = clamp(1.15 - near, 0.0, 1.0) * clamp(1.0 - 3.0 * width, 0.0, 1.0); // lines closer than 3 px fade
    return max(ink.x, ink.y);
}

void main() {
    float fade = 1.0 - smoothstep(0.25, 1.0, length(ground) / reach);
    float ink = 0.20 * lines(ground / 0.1) * fade;
    vec2 scaled = ground / footprint;
    float shadow = 0.62 * exp2(-1.35 * dot(scaled, scaled)) * fade;
    // premultiplied: the shadow darkens, the lines lighten
    float cover = shadow + ink * (1.0 - shadow);
    colour = vec4(vec3(0.62, 0.68, 0.76) * ink, cover);
}
