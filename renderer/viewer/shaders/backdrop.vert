in vec2 in_place;
out vec2 place;

void main() {
    place = in_place;
    gl_Position = vec4(in_place, 0.0, 1.0);
}
