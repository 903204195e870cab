#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Shared libraries that wheels cannot bring along and a bare Debian or Ubuntu lacks: Blender's module (bpy) and OpenMP.
# As root they are installed; otherwise the command that installs them is printed. Other systems are left alone.
set -euo pipefail
command -v dpkg-query >/dev/null || exit 0
missing=()
for package in libegl1 libgl1 libgomp1 libice6 libsm6 libx11-6 libxfixes3 libxi6 libxkbcommon0 libxrender1 libxxf86vm1; do
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
((${#missing[@]})) || exit 0
if [ "$(id -u)" = 0 ]; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
else
  echo "These libraries are missing; install them once with: sudo apt-get install --no-install-recommends ${missing[*]}" >&2
  exit 1
fi
