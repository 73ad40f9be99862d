"""The config plane: one versioned document a scope, brought to every process by pull and by push.

Submodules are imported by name: `backstay.resilience.delivery.envelope`, `.port`, `.plane`, `.sources`.
"""
