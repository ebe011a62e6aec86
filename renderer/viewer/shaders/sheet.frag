uniform sampler2D sheet;
in vec2 at;
out vec4 colour;

void main() {
    colour = texture(sheet, at);
}
