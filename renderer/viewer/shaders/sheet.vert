// A flat picture in a rectangle of the framebuffer.
uniform vec2 canvas; // framebuffer, px
uniform vec4 place;  // left, top, width, height in px, origin at the top left
uniform vec4 source; // the same, as fractions of the texture
in vec2 in_place;
out vec2 at;

void main() {
    vec2 unit = in_place * 0.5 + 0.5;
    at = source.xy + unit * source.zw;
    vec2 spot = (place.xy + unit * place.zw) / canvas * 2.0 - 1.0;
    gl_Position = vec4(spot.x, -spot.y, 0.0, 1.0);
}
