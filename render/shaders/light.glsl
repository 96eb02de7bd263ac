// Sun, sky, haze and the six targets. Positions are relative to the eye, axes are the world's.
// The sky formula is that of render/sky.py.

layout(location = 0) out vec4 out_direct;    // sunlight leaving the surface, plus haze; depth in alpha
layout(location = 1) out vec4 out_ambient;   // albedo times what haze lets by: what ambient light falls on
layout(location = 2) out vec4 out_albedo;    // sRGB-coded; 1 in alpha on fracture faces
layout(location = 3) out vec4 out_normal;    // world; sun visibility in alpha
layout(location = 4) out uint out_id;
layout(location = 5) out vec4 out_motion;    // [px] backward xy, forward zw

uniform vec3 sun;
uniform vec3 sun_radiance;
uniform vec3 sky_horizon;
uniform vec3 sky_zenith;
uniform vec3 sky_glow;
uniform float haze;

uniform mat4 light_clip;                     // eye-relative position to shadow map, all in 0..1
uniform float shadow_texel;                  // [m]
uniform float shadow_size;                   // [px]
uniform sampler2DShadow shadow_map;

uniform sampler3D dust_light;                // sun transmittance of the dust
uniform vec3 dust_lower;                     // eye-relative corner of its box
uniform vec3 dust_scale;                     // 1 / extent of its box; 0 where there is no dust

uniform vec2 half_size;                      // [px] half the output resolution

const float GLOW_G = 0.72;

vec3 sky_radiance(vec3 direction) {
    float g = GLOW_G;
    float lobe = pow(1.0 - g, 3.0) / pow(1.0 + g * g - 2.0 * g * dot(direction, sun), 1.5);
    return mix(sky_horizon, sky_zenith, sqrt(max(direction.y, 0.0))) + sky_glow * lobe / (1.0 - g);
}

// Share of the sun that the dust lets by: the grid knows it inside its box, so a place outside looks where its sunray enters.
float dust_transmittance(vec3 p) {
    if (dust_scale.x <= 0.0) return 1.0;
    vec3 cell = (p - dust_lower) * dust_scale;
    vec3 way = sun * dust_scale;
    vec3 a = -cell / way, b = (1.0 - cell) / way;          // infinite where the sun is parallel to a side
    vec3 first = min(a, b), last = max(a, b);
    float enter = max(max(first.x, first.y), max(first.z, 0.0));
    if (enter >= min(last.x, min(last.y, last.z))) return 1.0;
    return texture(dust_light, cell + way * enter).r;
}

// Share of the sun that reaches p: shadow map with four bilinear taps over 4 x 4 texels, then dust.
float sun_visibility(vec3 p, vec3 n) {
    float facing = dot(n, sun);
    if (facing <= 0.0) return 0.0;
    // pushed off the face by what the taps span on it, so that a lit plane never shadows itself
    vec3 at = p + shadow_texel * (n * (0.6 + 2.4 * sqrt(1.0 - facing * facing)) + sun * 0.5);
    vec3 q = (light_clip * vec4(at, 1.0)).xyz;
    q.z = min(q.z, 1.0);
    float texel = 1.0 / shadow_size;
    float lit = 0.25 * (texture(shadow_map, q + vec3(-texel, -texel, 0.0)) + texture(shadow_map, q + vec3(texel, -texel, 0.0))
                      + texture(shadow_map, q + vec3(-texel, texel, 0.0)) + texture(shadow_map, q + vec3(texel, texel, 0.0)));
    return lit * dust_transmittance(p);
}

vec3 srgb_coded(vec3 c) {
    return mix(1.055 * pow(c, vec3(1.0 / 2.4)) - 0.055, c * 12.92, lessThanEqual(c, vec3(0.0031308)));
}

void surface_write(vec3 p, vec3 n, vec3 albedo, float depth, bool fracture, uint id) {
    float visible = sun_visibility(p, n);
    float clear = exp(-dot(p, p) / (haze * haze));
    vec3 radiance = albedo * sun_radiance * (visible * max(dot(n, sun), 0.0));
    out_direct = vec4(mix(sky_horizon, radiance, clear), depth);
    out_ambient = vec4(albedo * clear, 1.0);
    out_albedo = vec4(srgb_coded(albedo), fracture ? 1.0 : 0.0);
    out_normal = vec4(n, visible);
    out_id = id;
}

// Pixel of a clip position given as (x, y, w); rows run downwards because the projection is flipped.
vec2 pixel_of(vec3 clip) {
    return (clip.xy / clip.z) * half_size;
}

vec4 motion_of(vec3 now, vec3 before, vec3 after) {
    vec2 here = pixel_of(now);
    vec2 backward = before.z > 0.0 ? here - pixel_of(before) : vec2(0.0);
    vec2 forward = after.z > 0.0 ? pixel_of(after) - here : vec2(0.0);
    return vec4(backward, forward);
}
