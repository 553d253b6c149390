"""The stages of a study as functions of files: what the rules' scripts call.

One module a stage, so that the fingerprint of a stage names what that stage imports and no more.
"""
