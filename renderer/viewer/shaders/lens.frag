// The overlay mixes with the picture itself, so the depth test alone hides what lies behind: no blending order, no second pass.
uniform sampler2D picture;
uniform vec2 picture_origin; // lower left of the picture in the framebuffer, px
uniform vec2 picture_size;   // in the framebuffer, px
uniform float opacity;
in vec4 ink;
#ifdef WIRE
in vec3 corner;
#endif
#ifdef EDGE
in float cover;
#endif
out vec4 colour;

void main() {
    if (ink.a < 0.0) {
        discard;
    }
    vec2 place = (gl_FragCoord.xy - picture_origin) / picture_size;
    vec3 behind = texture(picture, vec2(place.x, 1.0 - place.y)).rgb;
    float share = opacity;
    vec3 over = ink.rgb;
#ifdef WIRE
    vec3 width = fwidth(corner);
    vec3 line = smoothstep(vec3(0.0), 1.35 * width, corner);
    float small = max(max(width.x, width.y), width.z); // one over the height of the triangle, px
    share *= (1.0 - min(min(line.x, line.y), line.z)) * clamp(1.5 - 2.2 * small, 0.5, 1.0);
#endif
#ifdef HIDE // depth only: silhouettes lie over the bare picture
    share = 0.0;
#endif
#ifdef DIFFERENCE
    over = abs(over - behind);
#endif
#ifdef EDGE // blended, not mixed: what lies below may be the mesh itself
    float edge = share * cover;
    colour = vec4(over * edge, edge);
#else
    colour = vec4(mix(behind, over, share), 1.0);
#endif
}
