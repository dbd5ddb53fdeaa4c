"""How policies choose: a family of rules a file, each with its source and what differs from it. Everything is batched over
clips and heads; q, k and v are [clips, heads, tokens, head_dim], text last, and the scale is 1 / sqrt(head_dim).

A chooser is made for one sampling hook, `chooser(policy, grid, text_tokens, steps)`, and says at every sparse call what is
kept, `chooser(q, k, v, layer, step)`: a `kept.Blocks`, or svg2's clusters. The draft, whose code is draftattention's, and
chance are in lab.model.policies.
"""
