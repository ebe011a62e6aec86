uniform vec4 ink; // display RGB and opacity
in float side;
out vec4 colour;

void main() {
    float cover = ink.a * (1.0 - abs(side));
    colour = vec4(ink.rgb * cover, cover);
}
