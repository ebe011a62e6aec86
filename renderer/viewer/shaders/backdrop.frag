// Studio paper: a soft pool of light behind the head. The noise of half a level hides the steps of 8 bits.
uniform float aspect;
in vec2 place;
out vec4 colour;

void main() {
    vec2 from_pool = (place - vec2(-0.05, 0.18)) * vec2(min(aspect, 1.4) * 0.80, 0.78);
    float pool = exp2(-1.9 * dot(from_pool, from_pool));
    vec3 paper = mix(vec3(0.058, 0.064, 0.078), vec3(0.300, 0.322, 0.350), pool);
    float noise = fract(52.9829189 * fract(dot(gl_FragCoord.xy, vec2(0.06711056, 0.00583715)))) - 0.5;
    colour = vec4(paper + noise / 255.0, 1.0);
}
