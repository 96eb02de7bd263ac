#version 410
// Bodies: rest vertices placed by the pose table at three times.
layout(location = 0) in vec3 position;
layout(location = 1) in uint body;

uniform samplerBuffer poses;                 // 9 texels a body: rows of (linear | position - eye), now, before, after
uniform mat4 clip_now;
uniform mat4 clip_before;
uniform mat4 clip_after;

out vec3 at_world;
out vec3 at_local;
out vec3 at_before;
out vec3 at_after;
flat out uint at_body;

vec3 placed(int texel) {
    vec4 p = vec4(position, 1.0);
    return vec3(dot(texelFetch(poses, texel), p), dot(texelFetch(poses, texel + 1), p), dot(texelFetch(poses, texel + 2), p));
}

void main() {
    int base = int(body) * 9;
    at_world = placed(base);
    at_local = position;
    at_before = (clip_before * vec4(placed(base + 3), 1.0)).xyw;
    at_after = (clip_after * vec4(placed(base + 6), 1.0)).xyw;
    at_body = body;
    gl_Position = clip_now * vec4(at_world, 1.0);
}
