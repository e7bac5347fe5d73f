"""Several personas of a person, each with its evidence: multi-persona induction (arXiv 2604.26120).

Events are read session by session into intents, the *memories*. A user's memories are clustered, and a
cluster that is more than chance becomes a *persona*. Of the paper its abstract alone could be had: from it
come the hierarchy (actions, memories, clusters, labels) and what a persona is to be, which is cohesive, shown
by its evidence, and true. All else is this project's.
"""
