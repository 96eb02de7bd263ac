#version 410
#include light.glsl

uniform dmat3 ray;
uniform mat4 clip_now;
uniform mat4 clip_before;
uniform mat4 clip_after;

void main() {
    vec2 ndc = gl_FragCoord.xy / (2.0 * half_size) - 1.0;
    vec3 direction = normalize(mat3(ray) * vec3(ndc, 1.0));
    out_direct = vec4(sky_radiance(direction), uintBitsToFloat(0x7F800000u));
    out_ambient = vec4(0.0);
    out_albedo = vec4(0.0);
    out_normal = vec4(0.0);
    out_id = 0u;
    vec4 far = vec4(direction, 0.0);
    out_motion = motion_of((clip_now * far).xyw, (clip_before * far).xyw, (clip_after * far).xyw);
}
