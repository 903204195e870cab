"""Training of the small InstructPix2Pix that ships with the engine.

Read in this order: vocabulary (what can be said), scenes, shapes, tracing and shading
(rendered views), pairs (views on disk), photos and filters (photographs and
whole-picture targets), vae, latents (what the codec makes of both), models, train,
finish, export, evaluate, sheets and card.
`python -m training --help` lists the commands.
"""
