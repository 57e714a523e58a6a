"""Who may do what: the policies of the OpenID AuthZEN Todo interoperability scenario."""

from __future__ import annotations

from pep.policy import PolicySet, has, permit, resource, subject

is_owner = resource.ownerID == subject.email
is_editor = subject.roles.contains("editor")

POLICIES = PolicySet([
    permit("everyone-reads", action={"can_read_user", "can_read_todos"}, when=has(subject.roles)),
    permit("editors-create", action="can_create_todo", when=subject.roles.intersects({"admin", "editor"})),
    permit("geniuses-update-any", action="can_update_todo", when=subject.roles.contains("evil_genius")),
    permit("editors-update-own", action="can_update_todo", when=is_editor & is_owner),
    permit("admins-delete-any", action="can_delete_todo", when=subject.roles.contains("admin")),
    permit("editors-delete-own", action="can_delete_todo", when=is_editor & is_owner),
])  # fmt: skip
