uniform mat4 clip_from_head;
in vec3 in_position;

void main() {
    gl_Position = clip_from_head * vec4(in_position, 1.0);
}
