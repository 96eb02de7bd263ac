#version 410
// The ground plane as one quad around the eye.
uniform mat4 clip_now;
uniform float eye_height;
uniform float reach;                         // [m]

void main() {
    vec2 corner = vec2(gl_VertexID & 1, gl_VertexID >> 1) * 2.0 - 1.0;
    gl_Position = clip_now * vec4(corner.x * reach, -eye_height, corner.y * reach, 1.0);
}
