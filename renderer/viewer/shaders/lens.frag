// The overlay mixes with the picture itself, so the depth test alone hides what lies behind: no blending order, no second pass.
uniform sampler2D picture;
uniform vec2 picture_origin; // lower left of the picture in the framebuffer, px
uniform vec2 picture_size;   // in the framebuffer, px
uniform float opacity;
in vec4 ink;
#ifdef WIRE
in vec3 corner;
#endif
out vec4 colour;

void main() {
    if (ink.a < 0.0) {
        discard;
    }
    vec2 place = (gl_FragCoord.xy - picture_origin) / picture_size;
    vec3 behind = texture(picture, vec2(place.x, 1.0 - place.y)).rgb;
    float cover = opacity;
#ifdef WIRE
    vec3 line = smoothstep(vec3(0.0), 1.35 * fwidth(corner), corner);
    cover *= 1.0 - min(min(line.x, line.y), line.z);
#endif
    colour = vec4(mix(behind, ink.rgb, cover), 1.0);
}
