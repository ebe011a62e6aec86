uniform sampler2D sheet;
uniform float opacity;
in vec2 at;
out vec4 colour;

void main() {
    colour = vec4(texture(sheet, at).rgb * opacity, opacity);
}
